-- The units were used, room or no room.
keep(math.min(most, owed + interval * units))
return 0
