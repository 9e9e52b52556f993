-- How large events are, for whoever decides which are too many. ARGV: time. Gives for each stream its key, and of each
-- of its events the time and the bytes.

local base, found = KEYS[1], {}
for _, key in ipairs(call('LRANGE', base .. ':o', 0, -1)) do
  local sizes, index = {}, 0
  repeat
    local chunk = call('LRANGE', base .. ':e:' .. key, index, index + 99)
    for _, event in ipairs(chunk) do
      local number, at, size = parse_event(event)
      sizes[#sizes + 1] = number .. ' ' .. at .. ' ' .. size
    end
    index = index + 100
  until #chunk < 100
  found[#found + 1] = key
  found[#found + 1] = sizes
end
return found
