-- The record of a session. ARGV: time, what to do, and what that takes. Times to live are microseconds, or empty.

local base, now = KEYS[1], clock()
local record = base .. ':s'
local session = session_of(base)
local is_open = session.recorded and not is_over(session, now) and not session.closed
local actions = {}

local function use(ttl)
  call('HSET', record, 'u', now)
  if ttl == '' then
    call('HDEL', record, 'e')
  else
    call('HSET', record, 'e', text(tonumber(now) + tonumber(ttl)))
  end
  keep_session(base, now)
end

-- ARGV[3]: time to live; then fields and values.
function actions.create()
  if session.recorded and not is_over(session, now) then
    return {'exists', call('HGETALL', record)}
  end
  if session.recorded then
    remove_session(base)
  end
  call('HSET', record, 't', now, unpack(ARGV, 4))
  use(ARGV[3])
  return {'made', call('HGETALL', record)}
end

function actions.get()
  return session.recorded and not is_over(session, now) and call('HGETALL', record) or {}
end

-- Also one that has expired.
function actions.any()
  return call('HGETALL', record)
end

function actions.is_open()
  return is_open and 1 or 0
end

-- ARGV[3]: time to live, ARGV[4]: how many fields are expected to be what they are; then these, and those to write.
-- A field that is - has no value, one that is + has the rest.
function actions.update()
  if not is_open then
    return {}
  end
  local first = 5 + 2 * tonumber(ARGV[4])
  for i = 5, first - 1, 2 do
    local value = call('HGET', record, ARGV[i])
    if (value and '+' .. value or '-') ~= ARGV[i + 1] then
      return {}
    end
  end
  for i = first, #ARGV, 2 do
    if ARGV[i + 1] == '-' then
      call('HDEL', record, ARGV[i])
    else
      call('HSET', record, ARGV[i], string.sub(ARGV[i + 1], 2))
    end
  end
  use(ARGV[3])
  return call('HGETALL', record)
end

function actions.close()
  if not is_open then
    return {}
  end
  local used = call('HGET', record, 'u')
  use(ARGV[3])
  call('HSET', record, 'u', used, 'x', now)
  return call('HGETALL', record)
end

-- ARGV[3]: a moment. Whether the session is kept though it expired before it, and nothing that it has left is.
function actions.is_overdue()
  local is_due = session.recorded and session.expires and tonumber(session.expires) <= tonumber(ARGV[3])
  return is_due and call('EXISTS', base .. ':t') == 0 and 1 or 0
end

-- ARGV[3]: whether only if it has expired.
function actions.remove()
  if ARGV[3] == '1' and not is_over(session, now) then
    return {}
  end
  return remove_session(base)
end

-- ARGV[3]: a node, ARGV[4]: a node that need not be minded, ARGV[5]: whether no other need be. Gives the node in the way.
function actions.listen()
  local listener = call('HGET', record, 'l')
  if not session.recorded then
    return '-'
  end
  if listener and listener ~= ARGV[3] and listener ~= ARGV[4] and ARGV[5] ~= '1' then
    return listener
  end
  call('HSET', record, 'l', ARGV[3])
  return ''
end

function actions.unlisten()
  if call('HGET', record, 'l') == ARGV[3] then
    call('HDEL', record, 'l')
  end
end

return actions[ARGV[2]]()
