"""Due rules become job rows; gives the runs that are due."""
