-- Remove what of a session need not be kept any more. ARGV: time; in microseconds how long events are served, how long
-- the state of a handle is kept (empty: for ever), and how long it is remembered that a value was deleted; whether only
-- to look.
-- Gives how many sessions, streams, events and values there were, whether there may be more events, and, of who only
-- looks, of each stream how many at its beginning have expired.

local base, now = KEYS[1], clock()
local event_ttl, state_ttl, forget_after, only_looks = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local session = session_of(base)

if is_over(session, now) then
  local found
  if only_looks then
    local streams, events = count_streams(base)
    found = {1, streams, events, call('HLEN', base .. ':j')}
  else
    found = remove_session(base)
  end
  found[5], found[6] = 0, {}
  return found
end

local MOST = only_looks and math.huge or 1000
local events, streams, expired = 0, 0, {}
for _, key in ipairs(event_ttl ~= '' and call('LRANGE', base .. ':o', 0, -1) or {}) do
  local s, list = stream_of(base, key), base .. ':e:' .. key
  if s and events < MOST then
    local count = count_expired(list, tonumber(now) - tonumber(event_ttl), MOST)
    local is_empty = call('LLEN', list) == count
    events = events + count
    if only_looks then
      expired[#expired + 1] = key
      expired[#expired + 1] = count
    else
      cut(base, s, count)
    end
    local old = tonumber(now) - 2 * tonumber(event_ttl)
    local is_idle = math.max(tonumber(s.created), tonumber(s.at)) <= old
    if is_idle and (s.finished == '1' or not session.recorded) and is_empty then
      streams = streams + 1
      if not only_looks then
        forget_stream(base, s)
        call('LREM', base .. ':o', 1, key)
      end
    end
  end
end

local values = 0
local oldest = state_ttl == '' and -math.huge or tonumber(session.created or now) - tonumber(state_ttl)
local entries = call('HGETALL', base .. ':v')
for i = 1, #entries, 2 do
  local _, _, at = string.match(entries[i + 1], VALUE)
  local is_value = call('HEXISTS', base .. ':j', entries[i]) == 1
  local is_old = tonumber(at) <= (is_value and oldest or tonumber(now) - forget_after)
  if is_old and is_value then
    values = values + 1
  end
  if is_old and not only_looks then
    call('HDEL', base .. ':v', entries[i])
    call('HDEL', base .. ':j', entries[i])
  end
end
return {0, streams, events, values, events >= MOST and 1 or 0, expired}
