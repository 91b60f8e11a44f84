-- Begins leases anew, without counting a start.
-- ARGV: consumer, then flow and sid of each job
-- Gives 1 for a job that is still the consumer's
local consumer, answers = ARGV[1], {}
for a = 2, #ARGV, 2 do
  local mine = held(ARGV[a], ARGV[a + 1]) == consumer
  if mine then
    mine = #call('XCLAIM', base .. 'flow:' .. ARGV[a], GROUP, consumer, 0, ARGV[a + 1], 'JUSTID') == 1
  end
  answers[#answers + 1] = mine and 1 or 0
end
return answers
