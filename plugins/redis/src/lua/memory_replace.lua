-- ARGV: name, time to live, tokens of the messages, messages. The key stays, and with it the time to live.
open(ARGV[1])
if #ARGV > 3 then
  -- A server that is full refuses a script at its first write that takes room, and none behind another write.
  redis.call('LSET', memory, 0, '')
end
redis.call('LTRIM', memory, 0, 0)
count, tokens, gone = 0, 0, gone + count
push(4, ARGV[3])
return close(ARGV[1], '', '', ARGV[2])
