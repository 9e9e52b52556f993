-- Which commands this user may not use on the keys of the store. Where there is no such key, none of these changes
-- anything. ARGV: time.

local key, missing = KEYS[1] .. ':rights', {}
for _, command in ipairs({
  {'HMGET', key, 'x'}, {'HDEL', key, 'x'}, {'LRANGE', key, 0, 0}, {'LTRIM', key, 0, 0}, {'LREM', key, 1, 'x'},
  {'LPOP', key}, {'ZADD', key, 'XX', 0, 'x'}, {'ZREM', key, 'x'}, {'ZRANGEBYSCORE', key, 0, 0}, {'SET', key, 'x', 'XX'},
  {'PTTL', key}, {'PEXPIRE', key, 1}, {'PERSIST', key}, {'UNLINK', key}, {'DEL', key},
}) do
  local answer = redis.pcall(unpack(command))
  local said = type(answer) == 'table' and answer.err or ''
  -- Redis 7.0 and older say the latter.
  if string.find(said, 'permission') or string.find(said, 'user executing the script') then
    missing[#missing + 1] = command[1]
  end
end
return missing
