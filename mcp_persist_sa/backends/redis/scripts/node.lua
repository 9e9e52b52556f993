-- The lease of a node: a key that has the time at which it runs out. ARGV: time, what to do, microseconds.

local now, key = clock(), KEYS[1]

if ARGV[2] == 'renew' then
  local ends = tonumber(now) + tonumber(ARGV[3])
  return call('SET', key, text(ends), 'PX', text(tonumber(ARGV[3]) / 1000 + MARGIN))
elseif ARGV[2] == 'remove' then
  return call('DEL', key)
end
local ends = call('GET', key)
return ends and tonumber(ends) > tonumber(now) and 1 or 0
