-- Which commands this user may not use on the keys of the store. Where there is no such key, none of these changes
-- anything: HSET has too few arguments, and what RPUSH adds is removed. ARGV: time, the command that publishes, if any.

local key, missing = KEYS[1] .. ':rights', {}
local commands = {
  {'EXISTS', key}, {'GET', key}, {'SET', key, 'x', 'XX'}, {'TIME'},
  {'HDEL', key, 'x'}, {'HEXISTS', key, 'x'}, {'HGET', key, 'x'}, {'HGETALL', key}, {'HKEYS', key}, {'HLEN', key},
  {'HMGET', key, 'x'}, {'HSET', key, 'x', 'x', 'x'}, {'HSTRLEN', key, 'x'},
  {'ZADD', key, 'XX', 0, 'x'}, {'ZCARD', key}, {'ZCOUNT', key, 0, 0}, {'ZRANGE', key, 0, 0},
  {'ZRANGEBYSCORE', key, 0, 0}, {'ZRANK', key, 'x'}, {'ZREM', key, 'x'}, {'ZREMRANGEBYSCORE', key, 0, 0},
  {'ZREVRANGE', key, 0, 0}, {'ZSCORE', key, 'x'},
  {'RPUSH', key, 'x'}, {'LINDEX', key, 0}, {'LINSERT', key, 'BEFORE', 'y', 'x'}, {'LLEN', key}, {'LRANGE', key, 0, 0},
  {'PTTL', key}, {'PERSIST', key}, {'PEXPIRE', key, 1}, {'LREM', key, 1, 'x'}, {'LTRIM', key, 1, 0}, {'LPOP', key},
  {'UNLINK', key}, {'DEL', key},
}
if ARGV[2] ~= '' then
  commands[#commands + 1] = {ARGV[2], key, ''}
end
for _, command in ipairs(commands) do
  local answer = redis.pcall(unpack(command))
  local said = type(answer) == 'table' and answer.err or ''
  -- Redis 7.0 and older say the latter.
  if string.find(said, 'permission') or string.find(said, 'user executing the script') then
    missing[#missing + 1] = command[1]
  end
end
return missing
