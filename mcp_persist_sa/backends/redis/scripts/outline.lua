-- Read what a session consists of as it is kept, expired or not. ARGV: time, what to read, and what that takes.

local base = KEYS[1]
local actions = {}

-- The session's record, the names of its values with their bytes, and the keys of its streams.
function actions.names()
  local sizes = {}
  for _, name in ipairs(call('HKEYS', base .. ':v')) do
    sizes[#sizes + 1] = name
    sizes[#sizes + 1] = call('HSTRLEN', base .. ':j', name)
  end
  return {call('HGETALL', base .. ':s'), sizes, call('LRANGE', base .. ':o', 0, -1)}
end

-- ARGV[3]: how many values; then their names, and keys of streams.
function actions.records()
  local values, streams, first = {}, {}, 4 + tonumber(ARGV[3])
  for i = 4, first - 1 do
    values[#values + 1] = value_record(base, ARGV[i])
  end
  for i = first, #ARGV do
    streams[#streams + 1] = stream_record(base, ARGV[i])
  end
  return {values, streams}
end

-- ARGV[3]: a stream key, ARGV[4]: a number, ARGV[5]: how many, ARGV[6]: how many bytes. Gives the events that follow.
function actions.events()
  local list, most, left, found = base .. ':e:' .. ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6]), {}
  local index = count_through(list, tonumber(ARGV[4]))
  while #found < most do
    local chunk = call('LRANGE', list, index, index + math.min(100, most - #found) - 1)
    for _, event in ipairs(chunk) do
      local _, _, size = parse_event(event)
      left = left - size
      if left < 0 and #found > 0 then
        return found
      end
      found[#found + 1] = event
    end
    if #chunk == 0 then
      return found
    end
    index = index + #chunk
  end
  return found
end

-- ARGV[3]: how the keys of streams begin, ARGV[4]: a nonce. Gives the stream and the number of the event that has it.
function actions.find()
  for _, key in ipairs(call('LRANGE', base .. ':o', 0, -1)) do
    local index = 0
    while string.sub(key, 1, #ARGV[3]) == ARGV[3] do
      local chunk = call('LRANGE', base .. ':e:' .. key, index, index + 99)
      for _, event in ipairs(chunk) do
        local number, _, size = parse_event(event)
        if nonce_of(event, size) == ARGV[4] then
          return {key, number}
        end
      end
      if #chunk < 100 then
        break
      end
      index = index + 100
    end
  end
  return {}
end

return actions[ARGV[2]]()
