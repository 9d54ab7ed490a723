"""Auto-approval: rules, the policy file, the kill switch."""
