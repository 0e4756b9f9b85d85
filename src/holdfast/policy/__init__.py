"""Backup policies merged down that path; gives an effective policy, with origins."""
