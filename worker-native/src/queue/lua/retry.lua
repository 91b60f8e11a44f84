-- Puts claimed jobs aside until their pause is over.
-- ARGV: consumer, then for each job: flow, sid, pause in ms, 1 where the start counts, failures
-- Gives 1 for a job that was still the consumer's
local WIDTH = 5
local consumer, now, answers, ids = ARGV[1], now_ms(), {}, {}

local function put_aside(flow, sid, pause, counts, failures)
  local owner, claims = held(flow, sid)
  local fields = owner == consumer and entry_of(flow, sid)
  if not fields then return 0 end
  local lane, id, size, callback, starts, at, deadline = parse_meta(field(fields, 'm'))
  if not id then return 0 end
  starts = starts + claims - 1 + counts
  local meta = table.concat({lane, id, size, callback, starts, at, deadline}, ' ')
  -- After a write that stores nothing the others are allowed when memory is full; in the end they store little more.
  call('ZREM', base .. 'delayed', id)
  -- Both copies for a moment: what fails in between leaves the job where it was.
  call('HSET', base .. 'later:' .. id, 'flow', flow, 'm', meta, 'b', field(fields, 'b'), 'e', failures)
  call('ZADD', base .. 'delayed', now + pause, id)
  call('SET', base .. 'job:' .. id, '@' .. flow .. ' -')
  call('XDEL', base .. 'flow:' .. flow, sid)
  call('XACK', base .. 'flow:' .. flow, GROUP, sid)
  count('running', lane, -1)
  ids[#ids + 1] = id
  return 1
end

for a = 2, #ARGV, WIDTH do
  answers[#answers + 1] = put_aside(ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4])
end
tell(ids, now)
return answers
