for i in 1 2 3 4 5 6 7 8 9 10; do
  for w in "0000:00:05.0 0000:00:09.0" "0000:00:09.0 0000:00:05.0"; do
  set -- $w
  build/luio examples/pktgen.lua $2 --receive --count 1500 --seconds 8 > /tmp/r.txt 2>&1 &
  while ! grep -q receiving /tmp/r.txt; do sleep 0.05; done
  build/luio examples/pktgen.lua $1 --rate 1000 --count 1500 --size 300
  wait
  tail -4 /tmp/r.txt
  done
done
