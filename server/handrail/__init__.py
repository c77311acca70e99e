"""Handrail: a real-time push server for adaptive onboarding."""
