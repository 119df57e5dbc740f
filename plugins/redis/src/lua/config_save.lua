-- Writes values and their names. A value ends with its full time to live, in 16 digits.
-- KEYS: names, due, values. ARGV: for each value its id, the value, and the time that it has left ('' for ever).
for i = 3, #KEYS do
  local at = 3 * i - 8
  local id, value, left = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  redis.call('ZADD', KEYS[1], 0, id)
  if left == '' then
    redis.call('SET', KEYS[i], value)
    redis.call('ZREM', KEYS[2], id)
  else
    redis.call('SET', KEYS[i], value, 'PX', left)
    redis.call('ZADD', KEYS[2], string.format('%.0f', now() + left), id)
  end
end
return 1
