-- Read a page of a stream. ARGV: time, forward or back, stream key, number and nonce of the place, most events, most
-- bytes, for how many microseconds events are served (empty: for ever).
-- Gives unknown, expired or lost; or ok, whether there is more, the number before the page, whether the stream is
-- finished and the session closed, the node that is to end it (empty: none), the stream id, and the events.

local base, now = KEYS[1], clock()
local direction, key, place, nonce = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local most, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local oldest = ARGV[8] ~= '' and tonumber(now) - tonumber(ARGV[8])
local list = base .. ':e:' .. key

local s, session = stream_of(base, key), session_of(base)
if not s then
  return {'unknown'}
end
if is_over(session, now) then
  return {'expired'}
end

local function is_there()
  local index = count_through(list, place)
  local event = index > 0 and call('LINDEX', list, index - 1)
  if event then
    local number, _, size = parse_event(event)
    if tonumber(number) == place then
      return nonce_of(event, size) == nonce
    end
  end
  -- Also where the list has expired as a whole: then the last event is known.
  if tonumber(s.purged) == place then
    return s.purged_nonce == nonce
  end
  return not event and tonumber(s.last) == place and s.nonce == nonce
end

if nonce ~= '' and place > 0 and not is_there() then
  return {'lost'}
end

local page = {}
local count, bytes, before, more = 0, 0, place, false
-- Whether `bytes` is exact, or more than that.
local is_exact = true

-- Whether there was room for an event; the first that is no priming event always fits.
local function takes(event, size)
  if count == most or (bytes > 0 and bytes + size > most_bytes) then
    more = true
    return false
  end
  count, bytes = count + 1, bytes + size
  page[count] = event
  return true
end

-- Whether there was room for events without a look into them, which takes three times as long as all else.
local function takes_unseen(chunk)
  local fitting, bound = math.min(#chunk, most - count), bytes
  for i = 1, fitting do
    bound = bound + #chunk[i]
  end
  if bound > most_bytes then
    return false
  end
  for i = 1, fitting do
    page[count + i] = chunk[i]
  end
  count, bytes, more, is_exact = count + fitting, bound, fitting < #chunk, false
  return true
end

local function count_bytes()
  bytes, is_exact = 0, true
  for i = 1, count do
    local _, _, size = parse_event(page[i])
    bytes = bytes + size
  end
end

-- So many events that not many more are moved than fit.
local function step(last)
  local room = most - count + 1
  if bytes > 0 then
    room = math.min(room, math.ceil((most_bytes - bytes) * math.max(1, count) / bytes) + 1)
  end
  return math.max(1, math.min(2 * last, room))
end

-- Take events one by one, as far as there is room; false where one has expired that follows the place.
local function take_each(chunk)
  local seen, is_expired
  for i = 1, #chunk do
    local event = chunk[i]
    local number, at, size = parse_event(event)
    if at ~= seen then
      seen, is_expired = at, oldest and tonumber(at) <= oldest
    end
    if is_expired then
      if place > 0 then
        return false
      end
      page, count, bytes, before = {}, 0, 0, tonumber(number)
    elseif not takes(event, size) then
      break
    end
  end
  return true
end

local function forward()
  if place == 0 then
    before = tonumber(s.purged)
    if call('EXISTS', list) == 0 then
      before = tonumber(s.last)
    end
  end
  local none_expired = not oldest or since(s) > oldest
  local index, size_of_step = place == 0 and 0 or count_through(list, place), 2
  while true do
    size_of_step = step(size_of_step)
    local chunk = call('LRANGE', list, index, index + size_of_step - 1)
    if not (none_expired and takes_unseen(chunk)) then
      if not is_exact then
        count_bytes()
      end
      if not take_each(chunk) then
        return false
      end
    end
    if more or #chunk < size_of_step then
      return true
    end
    index = index + size_of_step
  end
end

local function back()
  local index, size_of_step = count_through(list, place - 1), 2
  while index > 0 do
    size_of_step = math.min(index, step(size_of_step))
    local chunk = call('LRANGE', list, index - size_of_step, index - 1)
    for i = #chunk, 1, -1 do
      local _, at, size = parse_event(chunk[i])
      if (oldest and tonumber(at) <= oldest) or not takes(chunk[i], size) then
        return
      end
    end
    index = index - size_of_step
  end
end

if direction == 'back' then
  back()
elseif not forward() then
  return {'lost'}
end
local waits = s.finished == '0' and call('HEXISTS', base .. ':t', 'w' .. key) == 1
return {
  'ok', more and 1 or 0, text(before), s.finished, session.closed and 1 or 0, waits and s.node or '', s.name, page,
}
