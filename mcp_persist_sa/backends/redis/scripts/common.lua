-- What the scripts share. KEYS are the bases of the keys of sessions; ARGV[1] is the time in microseconds, or empty for
-- the server's clock. Numbers are text wherever they are stored, because Lua's are written in another way.

local call = redis.call

-- How much later than it should things expire by themselves, in milliseconds.
local MARGIN = 60000

local function text(number)
  return string.format('%.0f', number)
end

local function clock()
  if ARGV[1] ~= '' then
    return ARGV[1]
  end
  local time = call('TIME')
  return time[1] .. string.format('%06d', time[2])
end

-- By how much later, because expiry is not set anew with each event: a part of the time for which events are kept.
local SELDOM = 0.01

-- Streams: all that is known of one stands in the field k<key> of the hash :t, its will in w<key>; the field =<name>
-- has the key of the newest of that name. The list :o has their keys in the order of their opening. No event of a stream
-- is older than `since`, or, where that is -, than the stream.

local STREAM = '^' .. string.rep('(%S+) ', 12) .. '(.*)$'

local function stream_of(base, key)
  local found = call('HGET', base .. ':t', 'k' .. key)
  if not found then
    return nil
  end
  local s = {key = key}
  s.last, s.nonce, s.at, s.since, s.claimed, s.finished, s.created, s.purged, s.purged_nonce, s.node, s.taken, s.kept,
    s.name = string.match(found, STREAM)
  return s
end

local function save_stream(base, s)
  call('HSET', base .. ':t', 'k' .. s.key, table.concat({
    s.last, s.nonce, s.at, s.since, s.claimed, s.finished, s.created, s.purged, s.purged_nonce, s.node, s.taken,
    s.kept, s.name,
  }, ' '))
end

local function forget_stream(base, s)
  call('HDEL', base .. ':t', 'k' .. s.key, 'w' .. s.key)
  if call('HGET', base .. ':t', '=' .. s.name) == s.key then
    call('HDEL', base .. ':t', '=' .. s.name)
  end
  call('UNLINK', base .. ':e:' .. s.key)
end

-- Events: a list a stream, of <number>:<time>:<nonce><kind><message>. Numbers rise, and may leave some out.

local EVENT = '^(%d+):(-?%d+):'

local function number_at(list, index)
  return tonumber((string.match(call('LINDEX', list, index), EVENT)))
end

-- How many events of a list have this number or a lower one. Where nothing is left out, that is known beforehand.
local function count_through(list, number)
  local count = call('LLEN', list)
  if count == 0 or number < number_at(list, 0) then
    return 0
  end
  local low, high = 1, math.min(count, number - number_at(list, 0) + 1)
  if number_at(list, high - 1) <= number then
    return high
  end
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if number_at(list, middle - 1) <= number then
      low = middle
    else
      high = middle
    end
  end
  return low
end

-- The number and the time of an event, and the bytes of its message.
local function parse_event(event)
  local number, at = string.match(event, EVENT)
  return number, at, #event - #number - #at - 11
end

local function nonce_of(event, size)
  return string.sub(event, -size - 9, -size - 2)
end

local function since(s)
  return tonumber(s.since == '-' and s.created or s.since)
end

local function note_time(s, at)
  if tonumber(at) < since(s) then
    s.since = at
  end
end

-- Add an event to the end of a stream. Where the list is new, what was before has expired as a whole.
local function add_event(base, s, number, now, content)
  if call('RPUSH', base .. ':e:' .. s.key, number .. ':' .. now .. ':' .. content) == 1 then
    s.since, s.kept = now == s.created and '-' or now, '-'
    if tonumber(s.last) > tonumber(s.purged) then
      s.purged, s.purged_nonce = s.last, s.nonce
    end
  end
  s.last, s.nonce, s.at = number, string.sub(content, 1, 8), now
  note_time(s, now)
end

-- Remove the first events of a stream, and mark the last of them.
local function cut(base, s, count)
  local list = base .. ':e:' .. s.key
  local last = count > 0 and call('LINDEX', list, count - 1)
  if not last then
    return 0
  end
  local number, _, size = parse_event(last)
  call('LTRIM', list, count, -1)
  s.purged, s.purged_nonce = number, nonce_of(last, size)
  save_stream(base, s)
  return count
end

-- How many events at the beginning of a list have expired, looked for among the first of them.
local function count_expired(list, oldest, most)
  local expired, seen = 0, 0
  while seen < most do
    local chunk = call('LRANGE', list, seen, seen + 99)
    for i, event in ipairs(chunk) do
      local _, at = string.match(event, EVENT)
      if tonumber(at) <= oldest then
        expired = seen + i
      end
    end
    seen = seen + 100
    if expired < seen then
      break
    end
  end
  return expired
end

-- Sessions: a hash :s; t, u, e and x are when it was opened, used, will expire and was closed.

local function session_of(base)
  local found = call('HMGET', base .. ':s', 't', 'e', 'x')
  return {recorded = found[1] ~= false, created = found[1], expires = found[2], closed = found[3] ~= false}
end

local function is_over(session, now)
  return session.expires and tonumber(session.expires) <= tonumber(now)
end

local function expire(key, milliseconds)
  if milliseconds then
    call('PEXPIRE', key, text(milliseconds))
  else
    call('PERSIST', key)
  end
end

-- Keep a session's record and state for their time. The record outlives the events: what a session has left must not
-- look like that of one that was never recorded.
local function keep_session(base, now)
  local expires = call('HGET', base .. ':s', 'e')
  local own = expires and math.max(0, tonumber(expires) - tonumber(now)) / 1000 + MARGIN
  local longest = call('PTTL', base .. ':t')
  expire(base .. ':v', own)
  expire(base .. ':j', own)
  expire(base .. ':s', own and longest ~= -1 and math.max(own, longest))
  -- A stream that has not ended is known for as long as its session.
  if longest >= 0 and (not own or own > longest) then
    expire(base .. ':t', own)
    expire(base .. ':o', own)
  end
end

-- Set when things expire by themselves: the events of a stream, what is known of all streams, and the record of the
-- session, which outlives both. The time to live is in milliseconds, 0 for ever.
local function keep_stream(base, s, now, ttl)
  if s.kept ~= '-' and tonumber(now) - tonumber(s.kept) < ttl * SELDOM * 1000 then
    return
  end
  s.kept = now
  if ttl > 0 then
    local long = 2 * ttl * (1 + SELDOM) + MARGIN
    call('PEXPIRE', base .. ':e:' .. s.key, text(ttl * (1 + SELDOM) + MARGIN))
    call('PEXPIRE', base .. ':t', text(long))
    call('PEXPIRE', base .. ':o', text(long))
    local record = call('PTTL', base .. ':s')
    if record >= 0 and record < long then
      call('PEXPIRE', base .. ':s', text(long))
    end
  elseif call('PTTL', base .. ':s') >= 0 then
    call('PERSIST', base .. ':s')
  end
end

-- Keep the state of a session, or that of a handle for its time to live, which is in microseconds, or empty for ever.
local function keep_state(base, now, ttl)
  if call('EXISTS', base .. ':s') == 1 then
    keep_session(base, now)
    return
  end
  for _, key in ipairs({base .. ':v', base .. ':j'}) do
    expire(key, ttl ~= '' and tonumber(ttl) / 1000 + MARGIN)
  end
end

-- What is kept of the values of a session: <version> <writer> <time> by name in the hash :v, the JSON in :j.
local VALUE = '^(%d+) (%S+) (-?%d+)$'

local function count_streams(base)
  local streams, events = call('LRANGE', base .. ':o', 0, -1), 0
  for _, key in ipairs(streams) do
    events = events + call('LLEN', base .. ':e:' .. key)
  end
  return #streams, events, streams
end

local function remove_streams(base)
  local count, events, streams = count_streams(base)
  for _, key in ipairs(streams) do
    call('UNLINK', base .. ':e:' .. key)
  end
  call('UNLINK', base .. ':t', base .. ':o')
  return count, events
end

-- Remove all of a session, and say how many sessions, streams, events and values there were.
local function remove_session(base)
  local streams, events = remove_streams(base)
  local values = call('HLEN', base .. ':j')
  call('UNLINK', base .. ':v', base .. ':j')
  return {call('DEL', base .. ':s'), streams, events, values}
end

-- Records, as they are read for copies.

-- A value: its name, version, time and JSON (nothing where it was deleted).
local function value_record(base, name)
  local version, _, at = string.match(call('HGET', base .. ':v', name) or '', VALUE)
  return version and {name, version, at, call('HGET', base .. ':j', name)} or nil
end

-- A stream: what is known of it, its will, and whether it has events. Its name comes last, because it may be anything.
local function stream_record(base, key)
  local found = call('HGET', base .. ':t', 'k' .. key)
  return found and {key, found, call('HGET', base .. ':t', 'w' .. key), call('EXISTS', base .. ':e:' .. key)} or nil
end
