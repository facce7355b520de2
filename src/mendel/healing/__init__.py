"""Cause, incident, decision, playbook: the only room that changes what is live on its own."""
