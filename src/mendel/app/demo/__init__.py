"""`mendel demo`: the whole loop on real data, with real processes over real sockets, through public doors only."""
