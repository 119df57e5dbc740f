-- ARGV: name, time to live, what to keep ('m' messages, 't' tokens, '' all), how much of it, tokens of the messages, messages.
open(ARGV[1])
push(6, ARGV[5])
return close(ARGV[1], ARGV[3], ARGV[4], ARGV[2])
