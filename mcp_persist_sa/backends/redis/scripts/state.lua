-- The state of a session or handle. ARGV: time, what to do, for how many microseconds that of a handle is kept (empty:
-- for ever), and what else it takes.

local base, now, ttl = KEYS[1], clock(), ARGV[3]
local entries, values = base .. ':v', base .. ':j'
local session = session_of(base)
local actions = {}

-- Values of this moment and before are not served any more. What a handle had left when a session of that id was opened
-- is not the session's.
local function oldest()
  if is_over(session, now) then
    return math.huge
  end
  return ttl == '' and -math.huge or tonumber(session.created or now) - tonumber(ttl)
end

local function entry_of(name)
  local version, writer, at = string.match(call('HGET', entries, name) or '', VALUE)
  if not version then
    return nil
  end
  local present = call('HEXISTS', values, name) == 1
  return {version = version, writer = writer, vacant = not present or tonumber(at) <= oldest()}
end

local function note(name, version, writer)
  call('HSET', entries, name, text(version) .. ' ' .. writer .. ' ' .. now)
end

function actions.get()
  local entry = entry_of(ARGV[4])
  return entry and not entry.vacant and {entry.version, call('HGET', values, ARGV[4])} or {}
end

-- ARGV[4]: name, ARGV[5]: JSON, ARGV[6]: who writes, ARGV[7]: the version that it must have (0: none; empty: any).
-- Gives whether it is written, and the version that it has.
function actions.put()
  local name, writer, expected = ARGV[4], ARGV[6], ARGV[7]
  local entry = entry_of(name)
  local vacant = not entry or entry.vacant
  if entry and entry.writer == writer then
    return {1, entry.version}
  end
  local fits = expected == '' or (expected == '0' and vacant) or (not vacant and entry.version == expected)
  if not fits then
    return {0, entry and entry.version or '0'}
  end
  local version = (entry and tonumber(entry.version) or 0) + 1
  note(name, version, writer)
  call('HSET', values, name, ARGV[5])
  keep_state(base, now, ttl)
  return {1, text(version)}
end

local function delete(name)
  local entry = entry_of(name)
  if not entry or entry.vacant then
    return 0
  end
  note(name, tonumber(entry.version) + 1, '-')
  return call('HDEL', values, name)
end

function actions.delete()
  return delete(ARGV[4])
end

function actions.clear()
  local count = 0
  for _, name in ipairs(call('HKEYS', values)) do
    count = count + delete(name)
  end
  return count
end

function actions.keys()
  local found = {}
  for _, name in ipairs(call('HKEYS', values)) do
    if not entry_of(name).vacant then
      found[#found + 1] = name
    end
  end
  return found
end

return actions[ARGV[2]]()
