-- What is known of streams. ARGV: time, what to do, and what that takes.

local base, now = KEYS[1], clock()
local session = session_of(base)
local actions = {}

-- ARGV[3]: a stream id. Gives the key of the newest stream of that name (or empty), whether its session is closed, and
-- whether it is recorded.
function actions.locate()
  if is_over(session, now) then
    return {'expired'}
  end
  local key = call('HGET', base .. ':t', '=' .. ARGV[3]) or ''
  return {'ok', key, session.closed and 1 or 0, session.recorded and 1 or 0}
end

-- The keys of all.
function actions.keys()
  return is_over(session, now) and {} or call('LRANGE', base .. ':o', 0, -1)
end

-- ARGV[3]: a key, ARGV[4]: for how many microseconds events are served, ARGV[5]: how many events were counted already.
-- Gives what is known, and of some further events the number, the bytes, the first and the last; then whether to ask again.
function actions.info()
  local s = not is_over(session, now) and stream_of(base, ARGV[3])
  if not s then
    return false
  end
  local list, seen = base .. ':e:' .. s.key, tonumber(ARGV[5])
  local oldest = ARGV[4] ~= '' and tonumber(now) - tonumber(ARGV[4])
  local count, bytes, first, last, stop = 0, 0, '', '', seen + 2000
  while seen < stop do
    local chunk = call('LRANGE', list, seen, seen + 99)
    for _, event in ipairs(chunk) do
      local number, at, size = parse_event(event)
      if not oldest or tonumber(at) > oldest then
        count, bytes, last = count + 1, bytes + size, number .. '.' .. nonce_of(event, size)
        first = first == '' and last or first
      end
    end
    seen = seen + 100
    if #chunk < 100 then
      seen, stop = 0, 0
    end
  end
  return {s.claimed, s.finished, s.last, s.created, s.at, s.name, count, bytes, first, last, seen}
end

-- ARGV[3]: a key, ARGV[4]: a number. Removes the events with lower ones, some at a time.
function actions.delete_before()
  local s = stream_of(base, ARGV[3])
  if not s then
    return 0
  end
  return cut(base, s, math.min(1000, count_through(base .. ':e:' .. s.key, tonumber(ARGV[4]) - 1)))
end

function actions.delete_all()
  return {remove_streams(base)}
end

-- ARGV[3]: a key, ARGV[4]: a node that is known to be dead, ARGV[5]: a nonce, ARGV[6]: how long to wait after the stream
-- was taken from its node. Gives the node that has to be looked at.
function actions.end_abandoned()
  local s = stream_of(base, ARGV[3])
  local will = s and call('HGET', base .. ':t', 'w' .. s.key)
  if not will or s.finished == '1' then
    return ''
  end
  if s.node ~= '-' then
    if s.node ~= ARGV[4] then
      return s.node
    end
    s.node, s.taken = '-', now
    save_stream(base, s)
  elseif tonumber(s.taken) <= tonumber(now) - tonumber(ARGV[6]) then
    add_event(base, s, text(tonumber(s.last) + 1), now, ARGV[5] .. 'M' .. will)
    s.finished = '1'
    call('HDEL', base .. ':t', 'w' .. s.key)
    save_stream(base, s)
    local ttl = call('PTTL', base .. ':t')
    if ttl > 0 then
      call('PEXPIRE', base .. ':e:' .. s.key, ttl)
    end
  end
  return ''
end

return actions[ARGV[2]]()
