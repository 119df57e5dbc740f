-- ARGV: name, time to live, tokens of the messages, messages. The key stays, and with it the time to live.
open(ARGV[1])
redis.call('LTRIM', memory, 0, 0)
count, tokens, gone = 0, 0, gone + count
push(4, ARGV[3])
return close(ARGV[1], '', '', ARGV[2])
