((iota ?x (result (action (agent-identifier :name df@p) (search (df-agent-description) (search-constraints :max-results 5))) ?x)))
