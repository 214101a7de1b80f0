"""What rules, plans, checks and the report know of the workflow: paths of results, jobs, records, code of rules."""
