"""Both services from outside: started as an operator starts them, spoken to over real sockets."""
