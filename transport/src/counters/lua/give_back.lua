-- ARGV[3] units were not used.
if owed > 0 then
  keep(owed - interval * tonumber(ARGV[3]))
end
return 0
