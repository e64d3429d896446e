"""What a request, a filter and a component are. No I/O, nothing imported from the rest of the house."""
