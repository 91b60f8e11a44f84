-- The task's numbers, as of one moment. Only reads: answered also where memory is full, and by a replica.
-- Gives depth, running, jobs that wait for another try, dead letters, {bytes, settled, lost, unrun}, the data's name
return {
  call('HGETALL', base .. 'depth'), call('HGETALL', base .. 'running'), call('ZCARD', base .. 'delayed'),
  call('ZCARD', base .. 'dead'), call('HMGET', base .. 'count', 'bytes', 'settled', 'lost', 'unrun'),
  call('GET', base .. 'born') or '',
}
