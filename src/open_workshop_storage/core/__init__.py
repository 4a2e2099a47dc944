"""What a job is: settings, claims, job, events, errors and the contract of a job store."""
