-- The leases of the nodes of a namespace: a hash of the moments at which they run out. ARGV: time, what to do, and what
-- that takes. It expires with the last of them, when that is long past.

local now, leases = clock(), KEYS[1]
local actions = {}

-- ARGV[3]: a node, ARGV[4]: for how many microseconds, ARGV[5]: for how many more it is remembered.
function actions.renew()
  call('HSET', leases, ARGV[3], text(tonumber(now) + tonumber(ARGV[4])))
  local long = (tonumber(ARGV[4]) + tonumber(ARGV[5])) / 1000 + MARGIN
  if call('PTTL', leases) < long then
    call('PEXPIRE', leases, text(long))
  end
end

-- ARGV[3]: a node, ARGV[4]: how many microseconds ago its lease must have run out, or empty. Whether it was there.
function actions.remove()
  local ends = call('HGET', leases, ARGV[3])
  if not ends or (ARGV[4] ~= '' and tonumber(ends) > tonumber(now) - tonumber(ARGV[4])) then
    return 0
  end
  return call('HDEL', leases, ARGV[3])
end

-- ARGV[3]: a node. Whether its lease holds.
function actions.look()
  local ends = call('HGET', leases, ARGV[3])
  return ends and tonumber(ends) > tonumber(now) and 1 or 0
end

-- All nodes, and of each whether its lease holds.
function actions.all()
  local found = call('HGETALL', leases)
  for i = 2, #found, 2 do
    found[i] = tonumber(found[i]) > tonumber(now) and 1 or 0
  end
  return found
end

return actions[ARGV[2]]()
