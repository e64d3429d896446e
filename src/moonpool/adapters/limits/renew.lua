-- A lease goes on; where the store has forgotten it, it holds again what it held.
--
-- KEYS  of each slot its holders · of each reservation its bucket and its holders (see take.lua)
-- ARGV  lease · now ("": the store's own time) · seconds that a lease lives · number of slots ·
--       left of the reservation · used in all
local EPOCH = 1750000000
local KEEP = 60000
local lease, now, seconds, slots = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1000000
end
local until_when, ms = string.format('%.17g', now + seconds), math.ceil(seconds * 1000) + KEEP
for slot = 1, slots do
  redis.call('ZADD', KEYS[slot], until_when, lease)
  redis.call('PEXPIRE', KEYS[slot], ms)
end
for reserve = 1, (#KEYS - slots) / 2 do
  local bucket, holders = KEYS[slots + 2 * reserve - 1], KEYS[slots + 2 * reserve]
  if redis.call('HSETNX', bucket, 'L:' .. lease, ARGV[5] .. ' ' .. ARGV[6]) == 1 then
    redis.call('HINCRBY', bucket, 'sum', ARGV[5])
  end
  redis.call('ZADD', holders, until_when, lease)
  redis.call('PEXPIRE', holders, ms)
  if redis.call('PTTL', bucket) < ms then
    redis.call('PEXPIRE', bucket, ms)
  end
end
return 1
