--- QEMU's cards that this driver drives, each on a hub of its own machine: what a card sends goes nowhere, and its link is up.
return {
  e1000e = { netdev = { "-netdev", "hubport,hubid=0" } },
  e1000 = { netdev = { "-netdev", "hubport,hubid=0" } },
}
