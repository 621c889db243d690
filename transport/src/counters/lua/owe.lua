-- ARGV[3] units were used, room or no room; no more than ARGV[4] bursts are ever owed.
keep(math.max(owed, math.min(owed + interval * tonumber(ARGV[3]), burst * tonumber(ARGV[4]))))
return 0
