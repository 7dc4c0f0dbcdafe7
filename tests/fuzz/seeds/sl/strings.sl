((done (a "b \"c\" \\" :d :e -1.5e3)) true (sequence) #3"(x)
