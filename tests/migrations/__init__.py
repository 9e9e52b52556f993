"""Migrations: every way up, down and alongside a host application, on both dialects."""
