-- Drops dead letters for good.
-- ARGV: ids
-- Gives 1 for each that was there
local answers = {}
for i, id in ipairs(ARGV) do
  answers[i] = call('DEL', base .. 'dead:' .. id)
  call('ZREM', base .. 'dead', id)
end
return answers
