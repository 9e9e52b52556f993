-- Remove what of a session need not be kept any more. ARGV: time; in microseconds how long events are served, how long
-- the state of a handle is kept (empty: for ever), and how long it is remembered that a value was deleted.
-- Gives how many sessions, streams, events and values there were, and whether there may be more events.

local base, now = KEYS[1], clock()
local event_ttl, state_ttl, forget_after = ARGV[2], ARGV[3], tonumber(ARGV[4])
local session = session_of(base)

if is_over(session, now) then
  local removed = remove_session(base)
  removed[5] = 0
  return removed
end

local MOST = 1000
local events, streams = 0, 0
for _, key in ipairs(event_ttl ~= '' and call('LRANGE', base .. ':o', 0, -1) or {}) do
  local s, list = stream_of(base, key), base .. ':e:' .. key
  if s and events < MOST then
    events = events + cut(base, s, count_expired(list, tonumber(now) - tonumber(event_ttl), MOST))
    local old = tonumber(now) - 2 * tonumber(event_ttl)
    local is_idle = math.max(tonumber(s.created), tonumber(s.at)) <= old
    if is_idle and (s.finished == '1' or not session.recorded) and call('LLEN', list) == 0 then
      forget_stream(base, s)
      call('LREM', base .. ':o', 1, key)
      streams = streams + 1
    end
  end
end

local values = 0
local oldest = state_ttl == '' and -math.huge or tonumber(session.created or now) - tonumber(state_ttl)
local entries = call('HGETALL', base .. ':v')
for i = 1, #entries, 2 do
  local _, _, at = string.match(entries[i + 1], VALUE)
  if call('HEXISTS', base .. ':j', entries[i]) == 0 then
    if tonumber(at) <= tonumber(now) - forget_after then
      call('HDEL', base .. ':v', entries[i])
    end
  elseif tonumber(at) <= oldest then
    call('HDEL', base .. ':v', entries[i])
    values = values + call('HDEL', base .. ':j', entries[i])
  end
end
return {0, streams, events, values, events >= MOST and 1 or 0}
