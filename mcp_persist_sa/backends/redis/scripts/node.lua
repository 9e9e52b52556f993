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

-- Who keeps the namespace in order, and until when.
local duty = leases .. ':tending'

local function on_duty()
  local ends, node = string.match(call('GET', duty) or '', '^(-?%d+) (.*)$')
  return ends and tonumber(ends) > tonumber(now) and node
end

-- ARGV[3]: a node, ARGV[4]: for how many microseconds, ARGV[5]: whether only if it has the duty already. Whether it has.
function actions.tend()
  local node = on_duty()
  if node ~= ARGV[3] and (node or ARGV[5] == '1') then
    return 0
  end
  local ends = text(tonumber(now) + tonumber(ARGV[4]))
  call('SET', duty, ends .. ' ' .. ARGV[3], 'PX', text(tonumber(ARGV[4]) / 1000 + MARGIN))
  return 1
end

function actions.leave_tending()
  if on_duty() == ARGV[3] then
    call('DEL', duty)
  end
end

return actions[ARGV[2]]()
