-- The sessions of a namespace, by when they were opened: sorted sets of session keys, one of all, one an owner, one a
-- tenant; beside them those that are open by when they expire, and all by when they are removed at the latest.
-- They are not in the slot of the sessions, so they may know one too many or too few for a moment.
-- ARGV: time, what to do, and what that takes.

local base, now = KEYS[1], clock()
local all, open, due = base .. ':all', base .. ':open', base .. ':due'
local FOREVER = '9007199254740992'
local actions = {}

local function by_name(kind, name)
  return base .. ':' .. kind .. ':' .. name
end

local function real_milliseconds()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Keep an index at least as long as a session that it has.
local function keep(key, milliseconds)
  if not milliseconds then
    call('PERSIST', key)
    return
  end
  local left = call('PTTL', key)
  if left ~= -1 and left < milliseconds or call('ZCARD', key) == 1 then
    call('PEXPIRE', key, text(milliseconds))
  end
end

-- ARGV[3]: session key, then when it was opened, expires (or empty) and was closed (or empty), the digests of owner and
-- tenant (or empty), and for how long at most it is kept after it has expired, in milliseconds.
-- Gives some sessions that should have been removed by now.
function actions.enter()
  local member, created, expires, closed = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  local left = expires ~= '' and math.max(0, tonumber(expires) - tonumber(now)) / 1000 + MARGIN
  local names = {all}
  for i, kind in ipairs({'owner', 'tenant'}) do
    if ARGV[6 + i] ~= '' then
      names[#names + 1] = by_name(kind, ARGV[6 + i])
    end
  end
  for _, key in ipairs(names) do
    call('ZADD', key, created, member)
    keep(key, left and left + tonumber(ARGV[9]))
  end
  if closed == '' then
    call('ZADD', open, expires == '' and FOREVER or expires, member)
    keep(open, left)
  else
    call('ZREM', open, member)
  end
  local time = real_milliseconds()
  if left then
    call('ZADD', due, text(time + left), member)
    keep(due, left + tonumber(ARGV[9]))
  else
    call('ZREM', due, member)
  end
  return call('ZRANGEBYSCORE', due, '-inf', text(time), 'LIMIT', 0, 2)
end

-- ARGV[3]: session key, ARGV[4] and ARGV[5]: the digests of owner and tenant (or empty).
function actions.leave()
  local member = ARGV[3]
  for _, key in ipairs({all, open, due}) do
    call('ZREM', key, member)
  end
  for i, kind in ipairs({'owner', 'tenant'}) do
    if ARGV[3 + i] ~= '' then
      call('ZREM', by_name(kind, ARGV[3 + i]), member)
    end
  end
end

-- Take a place among the open sessions. ARGV[3]: session key, ARGV[4]: how many there may be, ARGV[5]: for how many
-- microseconds, within which the session has to be entered. Gives whether there was room, and how many there are.
function actions.reserve()
  call('ZREMRANGEBYSCORE', open, '-inf', now)
  local count, known = call('ZCARD', open), call('ZSCORE', open, ARGV[3])
  if known then
    return {2, count}
  end
  if count >= tonumber(ARGV[4]) then
    return {0, count}
  end
  call('ZADD', open, text(tonumber(now) + tonumber(ARGV[5])), ARGV[3])
  keep(open, tonumber(ARGV[5]) / 1000 + MARGIN)
  return {1, count}
end

function actions.release()
  call('ZREM', open, ARGV[3])
end

-- Byte by byte, as sorted sets have it; Lua compares as the locale of the server has it.
local function is_behind(one, other)
  for i = 1, math.min(#one, #other) do
    if string.byte(one, i) ~= string.byte(other, i) then
      return string.byte(one, i) > string.byte(other, i)
    end
  end
  return #one > #other
end

-- How many members of an index come before the place of ARGV[5] and ARGV[6], and whether it is there itself.
local function before_place(key)
  local before, score = call('ZCOUNT', key, '-inf', '(' .. ARGV[5]), call('ZSCORE', key, ARGV[6])
  if score and tonumber(score) == tonumber(ARGV[5]) then
    return call('ZRANK', key, ARGV[6]), true
  end
  for _, member in ipairs(call('ZRANGEBYSCORE', key, ARGV[5], ARGV[5])) do
    before = is_behind(member, ARGV[6]) and before or before + 1
  end
  return before, false
end

-- ARGV[3]: owner, tenant or all, ARGV[4]: its digest, ARGV[5]: score and ARGV[6]: session key after which to begin (or
-- empty), ARGV[7]: how many, ARGV[8]: 1 for the newest first. Gives session keys and scores.
function actions.page()
  local key = ARGV[3] == 'all' and all or by_name(ARGV[3], ARGV[4])
  local reverse, count = ARGV[8] == '1', tonumber(ARGV[7])
  local before, is_there = 0, false
  if ARGV[5] ~= '' then
    before, is_there = before_place(key)
  elseif reverse then
    before = call('ZCARD', key)
  end
  if reverse then
    local start = call('ZCARD', key) - before
    return call('ZREVRANGE', key, start, start + count - 1, 'WITHSCORES')
  end
  local start = is_there and before + 1 or before
  return call('ZRANGE', key, start, start + count - 1, 'WITHSCORES')
end

-- When the newest session was opened, or nothing.
function actions.newest()
  return call('ZREVRANGE', all, 0, 0, 'WITHSCORES')[2] or ''
end

-- ARGV[3]: a moment, ARGV[4]: how many. Gives session keys of those that were to expire before it.
function actions.overdue()
  return call('ZRANGEBYSCORE', open, '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])
end

return actions[ARGV[2]]()
