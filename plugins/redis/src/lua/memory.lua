-- A memory is a list. Its first element is the header: how many messages follow, their tokens together, how many were removed
-- before them, and the size of the largest that there ever was, `;` between the numbers. A message is its tokens, `;` and its content.
-- KEYS: the memory, names, due.
local memory, names, due = KEYS[1], KEYS[2], KEYS[3]
local count, tokens, gone, largest = 0, 0, 0, 0
local header = redis.call('LINDEX', memory, 0)
if header then
  count, tokens, gone, largest = string.match(header, '^(%d+);(%d+);(%d+);(%d+)$')
  count, tokens, gone, largest = tonumber(count), tonumber(tokens), tonumber(gone), tonumber(largest)
end

-- The tokens of the messages from one place to another.
local function cost(first, last)
  local sum = 0
  while first <= last do
    local messages = redis.call('LRANGE', memory, first, math.min(last, first + 99))
    for i = 1, #messages do
      sum = sum + string.match(messages[i], '^%d+')
    end
    first = first + #messages
  end
  return sum
end

-- Makes sure that there is a header, for what follows to be pushed behind it.
local function open(name)
  if not header then
    redis.call('RPUSH', memory, '')
    redis.call('ZADD', names, 0, name)
  end
end

-- Pushes the arguments from this one on.
local function push(first, added)
  if first <= #ARGV then
    redis.call('RPUSH', memory, unpack(ARGV, first))
    for i = first, #ARGV do
      largest = math.max(largest, #ARGV[i])
    end
    count = count + #ARGV - first + 1
    tokens = tokens + added
  end
end

-- How many of the oldest messages must go, and what they cost.
local function surplus(mode, limit)
  local number, sum = 0, 0
  if mode == 'm' and count > limit then
    number = count - limit
    sum = limit == 0 and tokens or cost(1, number)
  elseif mode == 't' then
    while tokens - sum > limit do
      local messages = redis.call('LRANGE', memory, number + 1, number + 100)
      for i = 1, #messages do
        if tokens - sum <= limit then
          break
        end
        sum = sum + string.match(messages[i], '^%d+')
        number = number + 1
      end
    end
  end
  return number, sum
end

-- Trims, writes the header and the time to live ('' leaves it). Answers messages and tokens.
local function close(name, mode, limit, ttl)
  local number, sum = surplus(mode, tonumber(limit))
  count, tokens, gone = count - number, tokens - sum, gone + number
  if count == 0 then
    redis.call('DEL', memory)
    redis.call('ZREM', names, name)
    redis.call('ZREM', due, name)
    return {0, '0'}
  end
  local text = string.format('%.0f;%.0f;%.0f;%.0f', count, tokens, gone, largest)
  if number == 0 then
    redis.call('LSET', memory, 0, text)
  else
    redis.call('LTRIM', memory, number + 1, -1)
    redis.call('LPUSH', memory, text)
  end
  if ttl ~= '' then
    redis.call('PEXPIRE', memory, ttl)
    redis.call('ZADD', due, string.format('%.0f', now() + ttl), name)
  end
  return {count, string.format('%.0f', tokens)}
end
