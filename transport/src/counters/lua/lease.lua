-- ARGV[5] units were used ahead of this and are owed, at most ARGV[4] bursts in all; then as many of ARGV[3] units as there is room for:
-- {granted, nanoseconds until there is room for one more, left}.
owed = math.max(owed, math.min(owed + interval * tonumber(ARGV[5]), burst * tonumber(ARGV[4])))
local granted = math.min(tonumber(ARGV[3]), units(burst - owed))
owed = owed + granted * interval
keep(owed)
return {granted, wait(math.max(0, owed + interval - burst)), units(burst - owed)}
