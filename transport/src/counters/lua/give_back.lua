-- The units were not used.
if owed > 0 then
  keep(owed - interval * units)
end
return 0
