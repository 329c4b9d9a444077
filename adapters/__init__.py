"""The environments in the forms of other libraries; each module needs the extra of its name."""
