-- The newest answer under an id.
-- ARGV: id, generations
local newest = number('count', 'answers')
for generation = newest, math.max(newest - tonumber(ARGV[2]) + 1, 0), -1 do
  local record = call('HGET', base .. 'answers:' .. generation, ARGV[1])
  if record then return record end
end
return false
