-- Values with the time that they have left, of one moment. KEYS: strings. Answers for each one the value, or nil, and the time.
local answer = {}
for i = 1, #KEYS do
  answer[2 * i - 1] = redis.call('GET', KEYS[i])
  answer[2 * i] = redis.call('PTTL', KEYS[i])
end
return answer
