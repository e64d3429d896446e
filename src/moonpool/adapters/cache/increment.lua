-- KEYS: a counter. ARGV: by how much · ms that a new one lives. Gives the new value.
local new = redis.call('EXISTS', KEYS[1]) == 0
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
if new then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return value
