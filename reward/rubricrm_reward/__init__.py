"""Rewards from rubrics and a judge, one file per trainer."""
