-- Store groups of events. ARGV: time, the time for which events are kept in milliseconds (0: for ever), writer, batch
-- number; then of each group in one text its kind (s: anyone may append, c: claimed, o: claimed and to be opened),
-- count, whether it is final, first number, stream key, node or -, whether there is a will, and stream id; then the will
-- if there is one, and the events.
-- Gives in one text for each group the key of its stream and its first number, or a reason and 0.

local now, ttl, writer, batch = clock(), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local GATE_MILLISECONDS, GATES = 3600000, 32
-- By a clock that is not the server's, nothing is removed in passing.
local tidies = ttl > 0 and ARGV[1] == ''

-- A batch that is sent again, or arrives late, is not let through twice in a session: it finds where the first one put
-- its groups.
local function open_gate(base)
  local gate = {base = base, note = {}, places = {}}
  local passed, at, note = string.match(call('HGET', base .. ':g', writer) or '', '^(%d+) (%d+)(.*)$')
  gate.is_fresh = at and tonumber(now) - tonumber(at) < GATE_MILLISECONDS * 500
  gate.closed = passed and tonumber(passed) >= tonumber(batch)
  if gate.closed and passed == batch then
    for nonce, key, first in string.gmatch(note, ' (%S+) (%S+) (%S+)') do
      gate.places[nonce] = {key, first}
    end
  end
  return gate
end

local function close_gate(gate)
  local key = gate.base .. ':g'
  local is_new = call('HSET', key, writer, batch .. ' ' .. now .. table.concat(gate.note)) == 1
  if not gate.is_fresh then
    call('PEXPIRE', key, 2 * GATE_MILLISECONDS)
  end
  if is_new and call('HLEN', key) > GATES then
    local all = call('HGETALL', key)
    for i = 1, #all, 2 do
      local at = string.match(all[i + 1], '^%d+ (%d+)')
      if tonumber(now) - tonumber(at) > GATE_MILLISECONDS * 1000 then
        call('HDEL', key, all[i])
      end
    end
  end
end

-- Forget some streams whose events have expired long ago: the first in the list, or else they go to its end.
local function sweep(base)
  local recorded = call('EXISTS', base .. ':s') == 1
  for _ = 1, 3 do
    local key = call('LPOP', base .. ':o')
    local s = key and stream_of(base, key)
    local old = s and tonumber(now) - tonumber(s.at) > (2 * ttl + MARGIN) * 1000
    if old and (s.finished == '1' or not recorded) then
      forget_stream(base, s)
    elseif s then
      call('RPUSH', base .. ':o', key)
    end
  end
end

local function begin(base, name, key, claimed, node)
  local s = {
    key = key, last = '0', nonce = '-', at = now, since = '-', claimed = claimed, finished = '0', created = now,
    purged = '0', purged_nonce = '-', node = node, taken = '0', kept = '-', name = name,
  }
  call('HSET', base .. ':t', '=' .. name, key)
  if tidies then
    sweep(base)
  end
  call('RPUSH', base .. ':o', key)
  return s
end

-- Events of a stream that never rests are not removed by the expiry of the list.
local function trim(base, s, before)
  if tidies and math.floor(before / 100) < math.floor(tonumber(s.last) / 100) then
    cut(base, s, count_expired(base .. ':e:' .. s.key, tonumber(now) - (ttl + MARGIN) * 1000, 1000))
  end
end

-- Add events from a number on; one that is there already is left as it is.
local function add(base, s, first, at, count, final)
  local before = tonumber(s.last)
  for i = 0, count - 1 do
    if first + i > before then
      add_event(base, s, text(first + i), now, ARGV[at + i])
    end
  end
  if final == '1' then
    s.finished = '1'
    call('HDEL', base .. ':t', 'w' .. s.key)
  end
  keep_stream(base, s, now, ttl)
  save_stream(base, s)
  trim(base, s, before)
end

local function append_shared(base, name, new_key, count, final, at)
  local key = call('HGET', base .. ':t', '=' .. name)
  local s = key and stream_of(base, key)
  if s and s.finished == '1' then
    s = nil
  end
  if s and s.claimed == '1' then
    return {'claimed', '0'}
  end
  s = s or begin(base, name, new_key, '0', '-')
  local first = tonumber(s.last) + 1
  add(base, s, first, at, count, final)
  return {s.key, text(first)}
end

local function append_claimed(base, kind, name, key, count, final, first, node, will, at)
  local s = stream_of(base, key)
  if not s and kind == 'o' then
    local rival = call('HGET', base .. ':t', '=' .. name)
    rival = rival and stream_of(base, rival)
    if not rival or rival.finished == '1' then
      s = begin(base, name, key, '1', node)
      if will then
        call('HSET', base .. ':t', 'w' .. key, will)
      end
    end
  end
  -- A node that was taken for dead has lost its streams.
  if not s or s.node ~= node then
    return {'claimed', '0'}
  end
  add(base, s, tonumber(first), at, count, final)
  return {key, first}
end

local HEAD = '^(%a) (%d+) (%d) (%d+) (%S+) (%S+) (%d) (.*)$'
local gates, out, at = {}, {}, 5
for i, base in ipairs(KEYS) do
  local kind, count, final, first, key, node, has_will, name = string.match(ARGV[at], HEAD)
  local will = has_will == '1' and ARGV[at + 1]
  local events, place = at + (will and 2 or 1), nil
  count = tonumber(count)
  at = events + count
  if kind == 's' then
    gates[base] = gates[base] or open_gate(base)
    local gate, nonce = gates[base], string.sub(ARGV[events], 1, 8)
    if gate.closed then
      place = gate.places[nonce] or {'unknown', '0'}
    else
      place = append_shared(base, name, key, count, final, events)
      gate.note[#gate.note + 1] = ' ' .. nonce .. ' ' .. place[1] .. ' ' .. place[2]
    end
  else
    place = append_claimed(base, kind, name, key, count, final, first, node, will, events)
  end
  out[i] = place[1] .. ' ' .. place[2]
end
for _, gate in pairs(gates) do
  if not gate.closed then
    close_gate(gate)
  end
end
return table.concat(out, ' ')
