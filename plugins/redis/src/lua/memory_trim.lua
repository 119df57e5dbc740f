-- ARGV: name, what to keep ('m' messages, 't' tokens), how much of it.
return close(ARGV[1], ARGV[2], ARGV[3], '')
