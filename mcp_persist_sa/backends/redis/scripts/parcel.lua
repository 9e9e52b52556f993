-- Write records of a session in the place of older ones, unless something has changed since these were looked at.
-- ARGV: time, for how many milliseconds events are kept (0: for ever), for how many microseconds the state of a handle is
-- (empty: for ever), a fingerprint of what was seen (empty: only look); then lists, each behind its length.
-- Gives the fingerprint and what is there; or, of who writes, whether it is written.

local base, now, at = KEYS[1], clock(), 5
local ttl, state_ttl, fingerprint = tonumber(ARGV[2]), ARGV[3], ARGV[4]

local function take()
  local count = tonumber(ARGV[at])
  local list = {}
  for i = 1, count do
    list[i] = ARGV[at + i]
  end
  at = at + count + 1
  return list
end

-- What is there

local FIELDS = {'i', 'o', 'w', 'p', 'c', 'h', 'm', 't', 'u', 'e', 'x'}
local parts = {}

local function seen(value)
  if type(value) == 'table' then
    for i = 1, #value do
      seen(value[i])
    end
  end
  parts[#parts + 1] = type(value) == 'table' and '#' .. #value or value and '+' .. value or '-'
  return value
end

local function events_between(key, first, last)
  local list, found = base .. ':e:' .. key, {}
  local index = count_through(list, first - 1)
  while true do
    local chunk = call('LRANGE', list, index, index + 99)
    for _, event in ipairs(chunk) do
      if tonumber((string.match(event, EVENT))) > last then
        return found
      end
      found[#found + 1] = event
    end
    if #chunk < 100 then
      return found
    end
    index = index + 100
  end
end

local present = {{}, {}, {}, {}, {}}
for i, value in ipairs(call('HMGET', base .. ':s', unpack(FIELDS))) do
  if seen(value) then
    table.insert(present[1], FIELDS[i])
    table.insert(present[1], value)
  end
end
for _, name in ipairs(take()) do
  table.insert(present[2], seen(value_record(base, name)))
end
for _, key in ipairs(take()) do
  table.insert(present[3], seen(stream_record(base, key)))
end
for _, name in ipairs(take()) do
  local key = call('HGET', base .. ':t', '=' .. name)
  local s = seen(key) and stream_of(base, key)
  if s and seen(s.finished) == '0' then
    table.insert(present[4], name)
    table.insert(present[4], key)
  end
end
local ranges = take()
for i = 1, #ranges, 3 do
  local found = events_between(ranges[i], tonumber(ranges[i + 1]), tonumber(ranges[i + 2]))
  table.insert(present[5], ranges[i])
  table.insert(present[5], seen(found))
end
local digest = redis.sha1hex(table.concat(parts, '\n'))
if fingerprint == '' then
  return {digest, present}
end
if fingerprint ~= digest then
  return 0
end

-- What is to be there. Where a value follows a +, there is one; otherwise there is none.

local function put(key, field, value)
  if string.sub(value, 1, 1) == '+' then
    call('HSET', key, field, string.sub(value, 2))
  else
    call('HDEL', key, field)
  end
end

local record = take()
for i = 1, #record, 2 do
  put(base .. ':s', record[i], record[i + 1])
end

local values = take()
for i = 1, #values, 4 do
  call('HSET', base .. ':v', values[i], values[i + 1] .. ' - ' .. values[i + 2])
  put(base .. ':j', values[i], values[i + 3])
end

local touched, order = {}, {}

local function touch(key, s)
  if not touched[key] then
    order[#order + 1] = key
  end
  touched[key] = s
end

local function nonce_of_last(s, old)
  if old and old.last == s.last then
    return old.nonce
  end
  return s.last == s.purged and s.purged_nonce or '-'
end

local streams = take()
for i = 1, #streams, 11 do
  local s = {}
  s.key, s.last, s.at, s.claimed, s.finished, s.created, s.purged, s.purged_nonce, s.node, s.will, s.name =
    unpack(streams, i, i + 10)
  local old = stream_of(base, s.key)
  s.nonce, s.since = nonce_of_last(s, old), old and old.since or '-'
  s.taken, s.kept = old and old.taken or '0', '-'
  if not old then
    call('RPUSH', base .. ':o', s.key)
  end
  put(base .. ':t', 'w' .. s.key, s.will)
  local removed = count_through(base .. ':e:' .. s.key, tonumber(s.purged))
  if removed > 0 then
    call('LTRIM', base .. ':e:' .. s.key, removed, -1)
  end
  touch(s.key, s)
end

local events = take()
for i = 1, #events, 2 do
  local key, event = events[i], events[i + 1]
  local s, list = touched[key] or stream_of(base, key), base .. ':e:' .. key
  touch(key, s)
  local number, at, size = parse_event(event)
  note_time(s, at)
  local newest = call('LINDEX', list, -1)
  if not newest or tonumber((string.match(newest, EVENT))) < tonumber(number) then
    call('RPUSH', list, event)
  else
    call('LINSERT', list, 'BEFORE', call('LINDEX', list, count_through(list, tonumber(number))), event)
  end
  if tonumber(number) >= tonumber(s.last) then
    s.last, s.nonce = number, nonce_of(event, size)
  end
end

-- The open stream of a name, or else the newest.
local function comes_before(s, other)
  if s.finished ~= other.finished then
    return s.finished == '0'
  end
  return tonumber(s.created) > tonumber(other.created)
end

for _, key in ipairs(order) do
  local s = touched[key]
  s.kept = '-'
  keep_stream(base, s, now, ttl)
  save_stream(base, s)
end
for _, key in ipairs(order) do
  local s, named = touched[key], call('HGET', base .. ':t', '=' .. touched[key].name)
  local other = named and stream_of(base, named)
  if not other or comes_before(s, other) then
    call('HSET', base .. ':t', '=' .. s.name, key)
  end
end
keep_state(base, now, state_ttl)
return 1
