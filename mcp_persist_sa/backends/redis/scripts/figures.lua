-- What a session holds, in figures. ARGV: time, two spans in microseconds, and whether to count bytes.
-- Gives the session's id or nothing, when it was opened, whether it is open and whether it has expired; how many streams
-- it has, how many that have not ended, how many events, their bytes, and when the oldest stream was opened; then for
-- each span whether the session, how many streams were opened within it, and how many events these have.

local base, now = KEYS[1], clock()
local session = session_of(base)
local within = {{0, 0, 0}, {0, 0, 0}}
local since = {tonumber(now) - tonumber(ARGV[2]), tonumber(now) - tonumber(ARGV[3])}
local streams, unfinished, events, bytes, oldest = 0, 0, 0, 0, nil

local function note(created, which, by)
  for i = 1, 2 do
    if created > since[i] then
      within[i][which] = within[i][which] + by
    end
  end
end

local function bytes_of(list)
  local sum, index = 0, 0
  repeat
    local chunk = call('LRANGE', list, index, index + 99)
    for _, event in ipairs(chunk) do
      local _, _, size = parse_event(event)
      sum = sum + size
    end
    index = index + 100
  until #chunk < 100
  return sum
end

for _, key in ipairs(call('LRANGE', base .. ':o', 0, -1)) do
  local s = stream_of(base, key)
  if s then
    local list, created = base .. ':e:' .. key, tonumber(s.created)
    local held = call('LLEN', list)
    streams, events = streams + 1, events + held
    unfinished = s.finished == '1' and unfinished or unfinished + 1
    bytes = ARGV[4] == '1' and bytes + bytes_of(list) or bytes
    oldest = math.min(oldest or created, created)
    note(created, 2, 1)
    note(created, 3, held)
  end
end

local id = session.recorded and call('HGET', base .. ':s', 'i')
if id then
  note(tonumber(session.created), 1, 1)
end
local over = is_over(session, now)
return {
  id and '+' .. id or '', session.created or '', id and not over and not session.closed and 1 or 0,
  id and over and 1 or 0, streams, unfinished, events, bytes, oldest and text(oldest) or '', within[1], within[2],
}
