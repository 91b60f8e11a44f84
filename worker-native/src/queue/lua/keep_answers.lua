-- Keeps answers that may be labelled, in generations: the oldest goes as a whole when a new one begins.
-- ARGV: ms to keep them, answers in a generation, generations, then for each answer: id, record
local MOST = 500
local generation = number('count', 'answers')
local key = base .. 'answers:' .. generation
for from = 4, #ARGV, MOST do
  call('HSET', key, unpack(ARGV, from, math.min(from + MOST - 1, #ARGV)))
end
call('PEXPIRE', key, ARGV[1])
if call('HLEN', key) >= tonumber(ARGV[2]) then
  call('HINCRBY', base .. 'count', 'answers', 1)
  call('UNLINK', base .. 'answers:' .. generation + 1 - tonumber(ARGV[3]))
end
return 1
