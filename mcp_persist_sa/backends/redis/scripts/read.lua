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
    local number, _, its_nonce = parse_event(event)
    if tonumber(number) == place then
      return its_nonce == nonce
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

local page = {events = {}, bytes = 0, before = place, more = false}

-- Whether there was room for an event; the first that is no priming event always fits.
local function takes(event, size)
  local count = #page.events
  if count == most or (page.bytes > 0 and page.bytes + size > most_bytes) then
    page.more = true
    return false
  end
  page.bytes = page.bytes + size
  page.events[count + 1] = event
  return true
end

-- So many events that not many more are moved than fit.
local function step(before)
  local room = most - #page.events + 1
  if page.bytes > 0 then
    local average = page.bytes / math.max(1, #page.events)
    room = math.min(room, math.ceil((most_bytes - page.bytes) / average) + 1)
  end
  return math.max(1, math.min(2 * before, room))
end

local function forward()
  if place == 0 then
    page.before = tonumber(s.purged)
    if call('EXISTS', list) == 0 then
      page.before = tonumber(s.last)
    end
  end
  local index, size_of_step = place == 0 and 0 or count_through(list, place), 2
  while true do
    size_of_step = step(size_of_step)
    local chunk = call('LRANGE', list, index, index + size_of_step - 1)
    for _, event in ipairs(chunk) do
      local number, at, _, size = parse_event(event)
      if oldest and tonumber(at) <= oldest then
        if place > 0 then
          return false
        end
        page.events, page.bytes, page.before = {}, 0, tonumber(number)
      elseif not takes(event, size) then
        return true
      end
    end
    if #chunk < size_of_step then
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
      local _, at, _, size = parse_event(chunk[i])
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
  'ok', page.more and 1 or 0, text(page.before), s.finished, session.closed and 1 or 0, waits and s.node or '', s.name,
  page.events,
}
